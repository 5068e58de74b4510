"""Whom connections trust."""

from __future__ import annotations

import ssl

from gemqueue_adapters.trust import trust_for


def test_https_trusts_a_bundle_that_is_read_once() -> None:
    """All https connections of a process share what was read, and check hosts and certificates against it."""
    trust = trust_for("https")
    assert trust is trust_for("https")
    assert trust.cert_store_stats()["x509_ca"] > 0
    assert (trust.verify_mode, trust.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_http_reads_no_certificates() -> None:
    """What is meant for http has none, and would still refuse a certificate, not ignore it."""
    trust = trust_for("http")
    assert trust.cert_store_stats()["x509_ca"] == 0
    assert (trust.verify_mode, trust.check_hostname) == (ssl.CERT_REQUIRED, True)
