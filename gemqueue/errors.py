"""Every error, drawn as one tree.

GemqueueError
  ConfigError           a setting, a key or an account is missing or wrong; nothing was started
    SealError           what is sealed cannot be opened here: the key is missing, or another one
  SubmitError           refused at the door; nothing was written
    PromptInvalid       the body is not a request of its kind
    PromptTooLarge      the body is over the limit
    NameConflict        the name is taken by another body
    QueueFull           the queue's memory limit is reached and stayed so
  OutcomeError          a single awaited prompt did not end in an answer
    PromptFailed        carries the Failure: kind, code, message
    PromptCancelled     somebody cancelled it
    OutcomeExpired      the outcome is no longer kept, or the key was never known
  ProviderError         the whole contract between adapters and stages: what may be done next
    Transient           later, in the same state
      ShortRead         what results had brought is open again: the server has lost it
    Rejected            never as it is
    Ambiguous           we do not know: fence, look, then act
  StoreError
    WrongState          the record is not in the state that the transition starts from
    StaleFence          somebody else has claimed the step since; drop what you hold
    StoreUnavailable    Redis does not answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemqueue.records import Failure


class GemqueueError(Exception):
    """The root: catch this to catch everything that gemqueue raises on purpose."""


class ConfigError(GemqueueError):
    """A setting, a key or an account is missing or wrong; the message names it and the way out."""


class SealError(ConfigError):
    """What is sealed cannot be opened here, or nothing sealed: the key is missing, or another one. Nothing is lost."""


class SubmitError(GemqueueError):
    """The prompt was refused at the door; nothing was written."""


class PromptInvalid(SubmitError):  # noqa: N818 - the words of design section 7
    """The body is not a request of its kind; the message names the field and the way out."""


class PromptTooLarge(SubmitError):  # noqa: N818
    """The body is larger than ``prompt_bytes_max``."""


class NameConflict(SubmitError):  # noqa: N818
    """The name is already taken by a prompt with another body; ``key`` is that prompt's key."""

    def __init__(self, message: str, *, name: str = "", key: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.key = key


class QueueFull(SubmitError):  # noqa: N818
    """The queue's memory limit was reached and stayed reached for ``submit_timeout_s``."""


class OutcomeError(GemqueueError):
    """A single awaited prompt did not end in an answer."""

    def __init__(self, message: str, *, key: str = "", name: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.name = name


class PromptFailed(OutcomeError):  # noqa: N818
    """The prompt ended in a failure; ``failure`` says its kind, code and message."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.message}", key=failure.key, name=failure.name)
        self.failure = failure


class PromptCancelled(OutcomeError):  # noqa: N818
    """The prompt was cancelled with ``Future.cancel`` before it was answered."""


class OutcomeExpired(OutcomeError):  # noqa: N818
    """The outcome is no longer kept (``keep_outcome_s``), or no such key was ever submitted to this queue."""


class ProviderError(GemqueueError):
    """A call to the provider did not succeed.

    ``call`` names the port's method that failed; ``code`` is the HTTP status (0 where there was none).
    """

    def __init__(self, message: str, *, call: str = "", code: int = 0) -> None:
        super().__init__(message)
        self.call = call
        self.code = code


class Transient(ProviderError):  # noqa: N818
    """The call did nothing and may be made again later, in the same state.

    ``retry_after_s`` is the provider's own wish where it said one. ``quota`` marks a refusal for quota (429), ``spend``
    one for want of money: a spend cap, credits that are used up, billing that is off. ``resource`` is which quota a
    refused create is about, ``tokens`` or ``jobs``, where the provider says so, and ``file`` where an upload's file
    never became usable: it has been deleted, and the next one may fare the same.
    """

    def __init__(
        self,
        message: str,
        *,
        call: str = "",
        code: int = 0,
        retry_after_s: float | None = None,
        quota: bool = False,
        spend: bool = False,
        resource: str = "",
    ) -> None:
        super().__init__(message, call=call, code=code)
        self.retry_after_s = retry_after_s
        self.quota = quota
        self.spend = spend
        self.resource = resource


class ShortRead(Transient):
    """A job's results were read to their end, twice, and brought fewer rows than the provider counts."""


class Rejected(ProviderError):  # noqa: N818
    """The call did nothing and never will as it is; the provider itself says so, in its own words.

    ``missing`` marks its own NOT_FOUND, and the Files API's 403 "or it may not exist": the thing named is not there, or
    not for this account.
    ``model`` says that the thing is the model. ``auth`` marks a key or permission that is wrong. ``line`` is the
    1-based input line that a create refused, if named.
    """

    def __init__(
        self,
        message: str,
        *,
        call: str = "",
        code: int = 0,
        missing: bool = False,
        model: bool = False,
        auth: bool = False,
        line: int | None = None,
    ) -> None:
        super().__init__(message, call=call, code=code)
        self.missing = missing
        self.model = model
        self.auth = auth
        self.line = line


class Ambiguous(ProviderError):  # noqa: N818
    """The call may or may not have taken effect: timeout, dropped connection, 5xx, a reply of somebody else."""


class StoreError(GemqueueError):
    """A transition in the store did not happen."""


class WrongState(StoreError):  # noqa: N818
    """The record is not in the state that the transition starts from."""


class StaleFence(StoreError):  # noqa: N818
    """Somebody else has claimed the step since; whatever the caller holds is void."""


class UnreadableRecord(StoreError):  # noqa: N818
    """A record in Redis is malformed; ``what`` names it (``batch 00b1...``), ``why`` says what is wrong with it."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"the record of {what} cannot be read: {why}")
        self.what = what
        self.why = why


class StoreUnavailable(StoreError):  # noqa: N818
    """Redis does not answer, or refuses; the message says which and what to do."""
