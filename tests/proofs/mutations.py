"""The mutants: what is broken in each, and how."""

from __future__ import annotations

import msgspec


class Patch(msgspec.Struct, frozen=True):
    """One replacement in one file."""

    file: str
    old: str
    new: str


class Mutant(msgspec.Struct, frozen=True):
    """What is broken, how, and the tests that should notice where the simulation cannot."""

    says: str
    patches: tuple[Patch, ...]
    tests: tuple[str, ...] = ()


_LUA = "gemqueue/store/lua/"
_WORKERS = "workers/gemqueue_workers/"
_STORE = ("tests/store/test_producer.py", "tests/store/test_batches.py", "tests/store/test_closing.py")

_TWICE = """
def _twice(create):
    async def call(**given):
        try:
            return await create(**given)
        except ProviderError:
            return await create(**given)
    return call
"""
_POP = """count(how == 'adopted' and 'adopted' or 'created', 1)
for _, id in ipairs(redis.call('LRANGE', key('manifest', batch), 0, -1)) do
  redis.call('UNLINK', key('segment', id))
end
"""
MUTANTS: dict[str, Mutant] = {
    "no-fence": Mutant(
        "no script looks at the caller's fence",
        (Patch(f"{_LUA}_core.lua", "  return redis.call('HGET', record, 'fence') ~= fence\n", "  return false\n"),),
    ),
    "settle-time-from-intent": Mutant(
        "the settle time counts from the intent, not from the deleted file",
        (
            Patch(
                "gemqueue/policy/submitting.py",
                "return batch.fenced_at + int(doubt_pause_s(",
                "return batch.intent_at + int(doubt_pause_s(",
            ),
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "store.fence(lease.claim, delay_s, ",
                "store.fence(lease.claim, 0, ",
            ),
        ),
        ("tests/policy/test_submitting.py",),
    ),
    "no-settle-time": Mutant(
        "the job is looked for as soon as the file is deleted",
        (
            Patch(
                "gemqueue/policy/submitting.py",
                "return SubmitStep.WAIT if now_ms < look_at_ms(batch, settings) else SubmitStep.FIND",
                "return SubmitStep.FIND",
            ),
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "store.fence(lease.claim, delay_s, ",
                "store.fence(lease.claim, 0, ",
            ),
        ),
        ("tests/policy/test_submitting.py",),
    ),
    "file-not-deleted": Mutant(
        "the fence is written, but the file stays",
        (
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "            was_there = await self._kit.provider.delete_file(batch.intent_file)\n",
                "            was_there = True\n",
            ),
        ),
    ),
    "resend-on-timeout": Mutant(
        "a create in doubt counts as not created",
        (
            Patch(
                "gemqueue/policy/submitting.py",
                "return AfterCreate(Refusal.DOUBT)",
                "return AfterCreate(Refusal.LATER, 1.0)",
            ),
        ),
    ),
    "retry-around-create": Mutant(
        "a create in doubt is sent once more",
        (
            Patch(f"{_WORKERS}stages/submitter.py", "\n\nclass Submitter:\n", f"\n\n{_TWICE}\n\nclass Submitter:\n"),
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "await self._kit.provider.create(",
                "await _twice(self._kit.provider.create)(",
            ),
        ),
    ),
    "never-adopt": Mutant(
        "a job that is found by its token is not taken over",
        (Patch(f"{_WORKERS}stages/submitter.py", "        if found is not None:\n", "        if False:\n"),),
        ("tests/stages/test_metrics.py",),
    ),
    "adopt-any-job": Mutant(
        "any job of the listing is taken for ours, whatever its token",
        (Patch("adapters/gemqueue_adapters/gemini.py", "if job.display_name in tokens}", "if job.display_name}"),),
        ("tests/adapters/test_conformance.py",),
    ),
    "input-while-running": Mutant(
        "the input of every running job is deleted",
        (
            Patch(
                "gemqueue/policy/inputs.py",
                "    chosen = settings.delete_files == DeleteFiles.RUNNING and",
                "    chosen =",
            ),
        ),
        ("tests/policy/test_inputs.py", "tests/store/test_inputs.py"),
    ),
    "missed-input-fails": Mutant(
        "a job that failed for want of its input is a failure like any other",
        (
            Patch(
                "gemqueue/policy/inputs.py", "    return batch.inputs_missed < MISSES_MAX and", "    return False and"
            ),
        ),
        ("tests/policy/test_inputs.py", "tests/store/test_inputs.py"),
    ),
    "missed-input-for-ever": Mutant(
        "a batch begins anew as often as its jobs say that their input is missing",
        (Patch("gemqueue/policy/inputs.py", "    return batch.inputs_missed < MISSES_MAX and", "    return"),),
        ("tests/policy/test_inputs.py", "tests/store/test_inputs.py"),
    ),
    "no-storage-bound": Mutant(
        "input files are stored without a bound",
        (Patch(f"{_LUA}reserve.lua", "  return no_storage(firsts.stored_bytes)\n", ""),),
        ("tests/store/test_stored_bytes.py",),
    ),
    "input-stays": Mutant(
        "the input of an ended job is left at the provider",
        (
            Patch(
                f"{_WORKERS}stages/resolver.py",
                "        await delete_input(self._kit, record, Effect.RESOLVE_DELETE)\n",
                "",
            ),
        ),
    ),
    "begin-without-lease": Mutant(
        "an intent may be written under a lease that has run out",
        (Patch(f"{_LUA}begin.lua", "if num(b[2]) <= now then return { 'stale' } end\n", ""),),
        _STORE,
    ),
    "reopen-any-intent": Mutant(
        "a late copy of reopen gives up whatever intent stands by then",
        (Patch(f"{_LUA}reopen.lua", " or b[4] ~= token then", " then"),),
        _STORE,
    ),
    "settle-without-fence": Mutant(
        "settle does not look at the fence",
        (Patch(f"{_LUA}settle.lua", "if stale(record, fence) then return { 'stale' } end\n", ""),),
        _STORE,
    ),
    "settle-without-bits": Mutant(
        "settle does not look at the bits: what has an outcome gets another",
        (Patch(f"{_LUA}settle.lua", "  if overlaps(old, bits) then\n", "  if false then\n"),),
    ),
    "pop-a-step": Mutant(
        "a claim takes the step out of the due index instead of leasing it",
        (
            Patch(
                f"{_LUA}claim.lua",
                "redis.call('ZADD', index, now + lease_ms, member)",
                "redis.call('ZREM', index, member)",
            ),
        ),
    ),
    "pop-a-segment": Mutant(
        "packing takes the body out of the store",
        (
            Patch(
                f"{_LUA}accept.lua",
                "count(how == 'adopted' and 'adopted' or 'created', 1)\n",
                _POP,
            ),
        ),
    ),
    "check-then-watch": Mutant(
        "somebody else's segment is looked at first and registered for then",
        (
            Patch(
                "gemqueue/client/listener.py",
                "        await self._watch([segment for segment in asked if not segment.watched])\n",
                "        early = await self._store.outcomes([(each.id, each.cursor) for each in asked], _BLOBS_MAX)\n"
                "        await self._watch([segment for segment in asked if not segment.watched])\n",
            ),
            Patch(
                "gemqueue/client/listener.py",
                "found = await self._store.outcomes(cursors, _BLOBS_MAX)",
                "found = early[: len(known)]",
            ),
        ),
        ("tests/client/test_listener.py", "tests/client/test_queue.py"),
    ),
    "watch-without-registering": Mutant(
        "a watcher looks and is not registered",
        (
            Patch(
                f"{_LUA}watch.lua",
                "  if redis.call('SCARD', watch) < WATCHERS_MAX then redis.call('SADD', watch, producer) end\n",
                "",
            ),
        ),
        ("tests/store/test_producer.py", "tests/client/test_listener.py"),
    ),
    "no-notice": Mutant(
        "settle tells nobody",
        (Patch(f"{_LUA}settle.lua", "notify(notices)\n", ""),),
    ),
    "close-with-a-bit-unset": Mutant(
        "a batch closes though a prompt of it has neither outcome nor retry",
        (
            Patch(
                f"{_LUA}close.lua",
                "  m.done = m.state ~= 'live' or f[7] ~= batch or done(id, m)\n",
                "  m.done = true\n",
            ),
        ),
    ),
    "ack-before-landing": Mutant(
        "submit returns before the segment is in the store",
        (
            Patch(
                "gemqueue/client/producer.py",
                "                taken = await self._writer.write(flight)\n",
                "                self._acknowledge(flight)\n                taken = await self._writer.write(flight)\n",
            ),
        ),
    ),
    "register-twice": Mutant(
        "a segment that is enqueued again is registered again",
        (Patch(f"{_LUA}enqueue.lua", "if state then\n", "if state == 'never' then\n"),),
    ),
    "names-not-checked": Mutant(
        "a name that is taken is taken again",
        (Patch(f"{_LUA}enqueue.lua", "if #taken > 0 then\n", "if #taken > 9999 then\n"),),
    ),
    "requeue-before-terminal": Mutant(
        "a job that is slow is given up while it runs",
        (
            Patch(
                "gemqueue/policy/tracking.py",
                "    if not status.state.terminal:\n",
                "    if not status.state.terminal and batch.polls < 1:\n",
            ),
        ),
    ),
    "buy-what-is-settled": Mutant(
        "an upload does not leave out what has its outcome",
        (
            Patch(
                f"{_WORKERS}stages/contents.py",
                "if not bitmap.has_bit(done, n) and not bitmap.has_bit(moved, n)]",
                "if not bitmap.has_bit(moved, n)]",
            ),
        ),
    ),
    "position-instead-of-key": Mutant(
        "a row answers the first prompt that has no answer yet",
        (
            Patch(
                f"{_WORKERS}stages/collector.py",
                "index = self._expected.arrive(row.key)",
                'index = self._expected.arrive(next((f"{o}.{i}" for o, i in self._expected.missing()), row.key))',
            ),
            Patch(
                f"{_WORKERS}stages/collector.py",
                'run.append((index, line, "answered"))',
                'run.append((index, answer_line(f"{origin}.{index}", row_verdict(line).raw), "answered"))',
            ),
        ),
    ),
    "lease-not-renewed": Mutant(
        "a lease is not renewed while its holder works",
        (Patch(f"{_WORKERS}stages/loop.py", "                await self.renew()\n", "                pass\n"),),
    ),
    "no-ttl-at-the-end": Mutant(
        "what is finished stays for ever",
        (
            Patch(
                f"{_LUA}_segments.lua",
                "  set_ttl(keep_s, meta_key, key('settled', id), key('outcomes', id), key('names', id)",
                "  set_ttl(keep_s, key('names', id)",
            ),
        ),
    ),
    "inbox-in-two-steps": Mutant(
        "an inbox is made first and given its TTL then",
        (
            Patch(
                "gemqueue/store/producer.py",
                "self.redis.pipeline(transaction=True)  # whoever dies",
                "self.redis.pipeline(transaction=False)  # whoever dies",
            ),
        ),
        ("tests/proofs/simulation/test_simulation.py",),
    ),
    "rescue-what-has-gone": Mutant(
        "lines that have gone on are rescued once more",
        (Patch(f"{_LUA}rescue.lua", "if overlaps(old, bits) then return { 'conflict' } end\n", ""),),
        ("tests/store/test_deadlines.py",),
    ),
    "rescue-without-fence": Mutant(
        "a rescuer that was overtaken goes on",
        (
            Patch(f"{_LUA}divert.lua", "if stale(key('rescue', lane), fence) then return { 'stale' } end\n", ""),
            Patch(f"{_LUA}rescue.lua", "if stale(key('rescue', lane), fence) then return { 'stale' } end\n", ""),
            Patch(f"{_LUA}defer.lua", "if stale(record, fence) then return { 'stale' } end\n", ""),
        ),
        ("tests/store/test_deadlines.py",),
    ),
    "divert-and-stay": Mutant(
        "a segment that goes over to another lane still waits in its own",
        (
            Patch(
                f"{_LUA}divert.lua",
                "not unpend(lane, meta.tenant, segment, sizes)"
                " and redis.call('ZREM', key('later', lane), segment) == 0",
                "not redis.call('ZSCORE', key('pending', lane, meta.tenant), segment)"
                " and not redis.call('ZSCORE', key('later', lane), segment)",
            ),
        ),
    ),
    "calls-in-doubt-not-counted": Mutant(
        "calls that a dead worker left behind are not counted",
        (
            Patch(
                f"{_WORKERS}stages/interactive.py", "        if self._batch.crashes and calls:\n", "        if False:\n"
            ),
        ),
    ),
    "late-answer-lands": Mutant(
        "the answer of a prompt that went on lands whether or not it is the first",
        (
            Patch(f"{_LUA}settle.lua", "  if overlaps(old, bits) then\n", "  if segment == '' then\n"),
            Patch(
                f"{_WORKERS}stages/collector.py",
                "            if arrival is not _EXPECTED:\n",
                "            if arrival is not _EXPECTED and arrival is not _SETTLED:\n",
            ),
        ),
    ),
    "late-answer-costs-nothing": Mutant(
        "what a batch answers of rescued prompts is left out of its lane's cost",
        (
            Patch(
                f"{_WORKERS}stages/collector.py",
                "            self._late_spending.count(usage_of(found.usage), version_of(found.version))\n",
                "",
            ),
        ),
        ("tests/stages/test_metrics.py",),
    ),
    "pool-without-room": Mutant(
        "an account packs a pool's lane whether or not it has room",
        (Patch("gemqueue/policy/pools.py", 'if held is not None else ""\n', 'if held is False else ""\n'),),
        ("tests/worker/test_pool.py",),
    ),
    "return-of-a-job-begun": Mutant(
        "a batch goes back to its pool though a job was begun for it",
        (Patch("gemqueue/policy/pools.py", "    if batch.intent_token or batch.past_tokens:\n", "    if False:\n"),),
        ("tests/stages/test_returning.py",),
    ),
    "pool-with-a-refused-key": Mutant(
        "an account whose key is refused goes on packing a pool's lanes",
        (
            Patch(
                "gemqueue/policy/pools.py",
                "        if one.hold.cause is Cause.ACCOUNT or (one.hold.text and one in before_job):\n",
                "        if False:\n",
            ),
            Patch("gemqueue/policy/pools.py", "    if before_job and not with_job:\n", "    if False:\n"),
        ),
        ("tests/worker/test_pool.py",),
    ),
    "submit-unconfirmed": Mutant(
        "a submit is acknowledged before a replica has it",
        (
            Patch(
                "gemqueue/store/producer.py",
                "retry=False, confirm=True, before=body_first",
                "retry=False, before=body_first",
            ),
        ),
    ),
    "delete-unconfirmed": Mutant(
        "results are deleted before a replica has what they brought",
        (
            Patch(
                f"{_WORKERS}stages/resolver.py", "if not await self._kit.store.confirm_closed(batch.id):", "if False:"
            ),
        ),
        ("tests/stages/test_steps.py",),
    ),
    "lost-is-missing": Mutant(
        "what a failover has undone is bought again instead of read again",
        (Patch("gemqueue/policy/resolving.py", "    return batch.short_reads < _READS_MAX\n", "    return False\n"),),
        ("tests/stages/test_metrics.py",),
    ),
    "one-look-concludes": Mutant(
        "one look is believed",
        (Patch("gemqueue/policy/beliefs.py", "if seen.n > len(gaps) and pace", "if seen.n > 0 and pace"),),
        ("tests/policy/test_beliefs.py",),
    ),
    "looks-at-once": Mutant(
        "looks that lie close together all count",
        (
            Patch(
                "gemqueue/policy/beliefs.py",
                "    if now_ms - seen.last_at < gap_s * 1000:\n",
                "    if gap_s < 0:\n",
            ),
        ),
        ("tests/policy/test_beliefs.py",),
    ),
    "any-look-agrees": Mutant(
        "a look that shows something else counts all the same",
        (Patch("gemqueue/policy/beliefs.py", "(seen.what != what and not keeps)", "False"),),
        ("tests/policy/test_beliefs.py",),
    ),
    "time-that-nobody-looked": Mutant(
        "the time since the first look is enough",
        (
            Patch(
                "gemqueue/policy/beliefs.py",
                "    if seen.n > len(gaps) and pace",
                "    if seen.n > 1 and now_ms - seen.first_at >= sum(gaps) * 1000 and pace",
            ),
        ),
        ("tests/policy/test_beliefs.py",),
    ),
    "a-belief-for-ever": Mutant(
        "no belief ends with the life of what it is about",
        (
            Patch(
                "gemqueue/policy/beliefs.py",
                "    if end_ms and now_ms >= end_ms and",
                "    if end_ms and now_ms < 0 and",
            ),
        ),
        ("tests/policy/test_beliefs.py",),
    ),
    "any-envelope-is-the-apis": Mutant(
        "another service's JSON counts as the API's own words",
        (
            Patch(
                "adapters/gemqueue_adapters/envelope.py",
                "return fits and error.code == code",
                "return bool(error.status)",
            ),
        ),
        ("tests/adapters/test_problems.py",),
    ),
    "empty-page-ends-the-list": Mutant(
        "an empty page with a token ends a list",
        (
            Patch(
                "adapters/gemqueue_adapters/listing.py",
                "        if not token:\n",
                "        if not (token and found):\n",
            ),
        ),
        ("tests/adapters/test_listing.py",),
    ),
    "lists-are-in-order": Mutant(
        "a list is believed to be newest first without having shown it",
        (Patch("adapters/gemqueue_adapters/listing.py", "self._fell and not self._rose", "True"),),
        ("tests/adapters/test_listing.py",),
    ),
    "a-job-that-is-done-has-failed": Mutant(
        "a job that is done and tells no end counts as failed",
        (
            Patch(
                "adapters/gemqueue_adapters/operations.py",
                'return JobState.FAILED if "error" in view.top else JobState.RUNNING',
                "return JobState.FAILED",
            ),
        ),
        ("tests/adapters/test_operations.py",),
    ),
    "unusable-files-stay": Mutant(
        "a file that never becomes usable stays at the provider",
        (
            Patch(
                "adapters/gemqueue_adapters/processing.py",
                "                await self._delete(self._info.name)\n",
                "                pass\n",
            ),
        ),
        ("tests/adapters/test_upload.py",),
    ),
    "run-on-any-store": Mutant(
        "a run goes on on a store that has forgotten it, and buys again what it had bought",
        (
            Patch(
                f"{_WORKERS}run/runner.py",
                "await self._still_to_buy(self._source, plan) if gone and plan.begun else 0",
                "0 if gone and plan.begun else 0",
            ),
        ),
        ("tests/cli/run/test_other_stores.py",),
    ),
    "beats-drop-others": Mutant(
        "a heartbeat drops the workers whose own clocks are behind this one's",
        (Patch(f"{_LUA}beat.lua", "'-inf', now)", "'-inf', now + 60000)"),),
        ("tests/store/test_workers.py",),
    ),
    "record-ends-with-its-member": Mutant(
        "a worker's record may end before its member, which then looks like a worker of 0.2.0",
        (Patch(f"{_LUA}beat.lua", "2 * ttl_ms", "ttl_ms"),),
        ("tests/store/test_workers.py",),
    ),
    "any-account-will-do": Mutant(
        "a worker of another account hides that nobody works for this one",
        (Patch("gemqueue/policy/workers.py", "account in worker.accounts)", "True)"),),
        ("tests/policy/test_workers.py",),
    ),
    "unknown-at-once": Mutant(
        "a job that no record knows is an alarm at its first sighting",
        (Patch(f"{_LUA}note_unknown.lua", "now - one[4] >= tonumber(again_ms)", "true"),),
        ("tests/stages/reconcile/test_unknown.py",),
    ),
    "unknown-counted-again": Mutant(
        "a job that no record knows is counted whenever it is seen",
        (Patch(f"{_LUA}note_unknown.lua", "    if one[5] == 0 and ", "    if "),),
        ("tests/stages/reconcile/test_unknown.py",),
    ),
    "in-flight-is-unknown": Mutant(
        "a create that was just sent is a job that no record knows",
        (Patch("gemqueue/policy/unknown.py", "settings.settle_s * 1000 <= age_ms", "0 <= age_ms"),),
        ("tests/policy/test_unknown.py",),
    ),
    "unknown-never-looked-for": Mutant(
        "few batches are open, and nobody looks for jobs that no record knows",
        (Patch(f"{_WORKERS}worker/lookout.py", "        if await self._is_time(noted):\n", "        if False:\n"),),
        ("tests/stages/reconcile/test_unknown.py",),
    ),
    "decision-of-another-belief": Mutant(
        "what a person said of one belief counts for the next one of the batch",
        (
            Patch(
                "gemqueue/policy/believed.py",
                "bool(batch.decided) and batch.decided == decision(seen)",
                "bool(batch.decided)",
            ),
        ),
        ("tests/policy/test_believed.py",),
    ),
    "create-with-too-little-lease": Mutant(
        "a create is sent though it may outlive its lease",
        (
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "        if lease.left_s <= self._kit.provider.create_timeout_s:\n",
                "        if False:\n",
            ),
        ),
        ("tests/stages/test_bought_once.py",),
    ),
    "ask-what-is-settled": Mutant(
        "an interactive prompt is asked for, and paid for, though it has its outcome",
        (
            Patch(
                f"{_LUA}ask.lua",
                "if redis.call('GETBIT', key('settled', origin), index) == 1 then return { 'settled' } end\n",
                "",
            ),
        ),
        ("tests/stages/test_interactive.py",),
    ),
    "dead-never-full": Mutant(
        "dead letters stay in memory until the last row has come",
        (
            Patch(
                f"{_WORKERS}stages/collector.py",
                "        if len(self._dead) >= _BURIAL_ROWS or self._dead_bytes >= _BURIAL_BYTES:\n",
                "        if False:\n",
            ),
        ),
        ("tests/stages/test_bought_once.py",),
    ),
    "page-without-look-by-name": Mutant(
        "a terminal state is believed of the shared list",
        (
            Patch(
                f"{_WORKERS}stages/shared_polls.py",
                "if seen is not None and not seen.state.terminal:",
                "if seen is not None:",
            ),
        ),
        ("tests/stages/test_shared_polls.py",),
    ),
    "believe-one-listing": Mutant(
        "a create counts as dead after one listing without its job",
        (
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "believing.look(self._kit, batch, shown, lease.now_ms)\n        if not taken.verdict.concluded:\n",
                "believing.look(self._kit, batch, shown, lease.now_ms)\n        if taken.evidence.n < 1:\n",
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "believe-one-unusable-file": Mutant(
        "prompts go back when one upload brought no usable file",
        (
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "Belief.FILE_UNUSABLE, lease.now_ms)\n        if not taken.verdict.concluded:\n",
                "Belief.FILE_UNUSABLE, lease.now_ms)\n        if taken.evidence.n < 1:\n",
            ),
        ),
        ("tests/stages/test_lies.py",),
    ),
    "believe-a-listing-that-lacks-jobs": Mutant(
        "a listing without jobs that must be in it counts as whole",
        (
            Patch(
                "gemqueue/policy/submitting.py",
                "    if not must <= search.listed:\n",
                "    if must is None:\n",
            ),
        ),
        ("tests/policy/test_submitting.py",),
    ),
    "look-for-one-token": Mutant(
        "a create in doubt is looked for by its newest token alone",
        (
            Patch(
                "gemqueue/policy/submitting.py",
                '{batch.intent_token, *batch.past_tokens.split()} - {""}',
                "{batch.intent_token}",
            ),
        ),
        ("tests/policy/test_submitting.py",),
    ),
    "believe-one-refusal": Mutant(
        "prompts fail when one create was refused",
        (
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "        if not taken.verdict.concluded:\n            hold =",
                "        if taken.evidence.n < 1:\n            hold =",
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "believe-one-end": Mutant(
        "a job that failed, expired or was cancelled without output is believed at one look",
        (
            Patch(
                f"{_WORKERS}stages/ended_jobs.py",
                "        if not taken.verdict.concluded:\n",
                "        if not taken.verdict.concluded and taken.evidence.belief is not Belief.NO_OUTPUT:\n",
            ),
            Patch(
                "gemqueue/policy/tracking.py",
                "return AfterPoll(TrackStep.END, min(soon_s, unit_s(settings)), status.state)",
                "return AfterPoll(TrackStep.END, min(soon_s, 0.0), status.state)",
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "believe-one-denial": Mutant(
        "results that are denied once are gone",
        (
            Patch(
                f"{_WORKERS}stages/ended_jobs.py",
                "        if not taken.verdict.concluded:\n",
                "        if not taken.verdict.concluded and taken.evidence.belief is not Belief.RESULTS_GONE:\n",
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "believe-one-short-reading": Mutant(
        "rows that one look lacks are missing",
        (
            Patch(
                f"{_WORKERS}stages/ended_jobs.py",
                "        if not taken.verdict.concluded:\n",
                "        if not taken.verdict.concluded and taken.evidence.belief is not Belief.ROWS_MISSING:\n",
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "believe-a-job-unknown": Mutant(
        "a job that is denied once is given up",
        (
            Patch(
                f"{_WORKERS}stages/tracker.py",
                "        if not taken.verdict.concluded:\n            polled =",
                "        if taken.evidence.n < 1:\n            polled =",
            ),
        ),
        ("tests/stages/test_bought_once.py",),
    ),
    "believe-one-missed-input": Mutant(
        "a job is replaced when one look says that its input was gone",
        (
            Patch(
                f"{_WORKERS}stages/tracker.py",
                "        if not taken.verdict.concluded:\n            await believing.wait(",
                "        if taken.evidence.n < 1:\n            await believing.wait(",
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "contradictions-count": Mutant(
        "a look that shows something else adds to the evidence",
        (
            Patch(
                "gemqueue/policy/beliefs.py",
                "(seen.what != what and not keeps)",
                "(seen.what == what and keeps and now_ms < 0)",
            ),
        ),
        ("tests/policy/test_beliefs.py",),
    ),
    "calls-not-noted": Mutant(
        "a call whose worker dies in it leaves no note, so that the prompt is asked for as often as workers die",
        (Patch(f"{_LUA}ask.lua", "redis.call('HSET', asked, prompt, calls .. ' ' .. now)\n", ""),),
        ("tests/stages/test_interactive.py",),
    ),
    "doubts-stay-behind": Mutant(
        "a prompt that goes on after a lost reply begins anew",
        (Patch(f"{_WORKERS}stages/retries.py", "            doubts=why.doubts,\n", ""),),
        ("tests/stages/test_interactive.py",),
    ),
    "never-silent": Mutant(
        "a lane asks on however many replies are lost",
        (Patch(f"{_LUA}ask.lua", "  if now < num(lost[3]) then return", "  if now < 0 then return"),),
        ("tests/stages/test_interactive.py",),
    ),
    "adopt-a-failed-job": Mutant(
        "a job in whose place the batch has begun anew is taken over again",
        (
            Patch(
                "gemqueue/policy/submitting.py",
                "    found = [job for job in search.jobs if job.job not in missed]\n",
                "    found = list(search.jobs or missed)\n",
            ),
        ),
        ("tests/policy/test_submitting.py",),
    ),
    "believe-the-first-reading": Mutant(
        "what one look at an ended job does not bring is bought again",
        (
            Patch(
                f"{_WORKERS}stages/ended_jobs.py",
                "        if not taken.verdict.concluded:\n",
                "        if taken.evidence.n < 1:\n",
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "an-outage-is-a-denial": Mutant(
        "what cannot be read counts as a look that brought nothing",
        (
            Patch(
                f"{_WORKERS}stages/ended_jobs.py",
                "            if not over or (isinstance(error, Rejected) and error.auth):\n",
                "            if isinstance(error, Rejected) and error.auth:\n",
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "names-of-others": Mutant(
        "the end of a segment is the end of every name that it ever had",
        (Patch(f"{_LUA}_names.lua", "value and string.match(value, '^[^.]+') == segment", "value"),),
        ("tests/store/test_names.py",),
    ),
    "the-dead-watch": Mutant(
        "a watcher without an inbox stays registered",
        (Patch(f"{_LUA}_segments.lua", "    if not told then\n", "    if false then\n"),),
        ("tests/store/test_watchers.py",),
    ),
    "paused-holds-others": Mutant(
        "a batch that a pool's pause holds stands first in its account's line",
        (
            Patch(
                f"{_LUA}_quota.lua",
                "  if not pool then return false end\n",
                "  if pool or not pool then return false end\n",
            ),
        ),
        ("tests/store/test_paused_pool.py",),
    ),
    "clock-back-unnoticed": Mutant(
        "what is due waits until the server's clock has caught up",
        (Patch(f"{_LUA}tick.lua", "  return math.max(now, at - back_ms)\n", "  return at\n"),),
        ("tests/store/test_clock.py",),
    ),
    "floor-is-the-clock": Mutant(
        "after a change of the server fences begin at its clock, whatever they were",
        (
            Patch(
                f"{_LUA}_server.lua",
                "now > last and now or last + 1048576",
                "now > last and now or now",
            ),
        ),
        ("tests/store/test_clock.py",),
    ),
    "cancels-uncounted": Mutant(
        "a batch does not count what is cancelled of it",
        (Patch(f"{_LUA}cancel.lua", "if where ~= 'pending' then", "if false then"),),
        ("tests/stages/test_cancels.py",),
    ),
    "expired-fills-the-queue": Mutant(
        "outcomes that have expired count when there is no room",
        (Patch(f"{_LUA}_expiry.lua", "    local gone = forget_expired()\n", "    local gone = 0\n"),),
        ("tests/stages/test_dead.py",),
    ),
    "cancelled-once": Mutant(
        "what the provider says of a cancellation is believed: it is not asked for again",
        (
            Patch(
                "gemqueue/policy/cancels.py", "    return batch.cancel_at > 0 and", "    return batch.cancel_at < 0 and"
            ),
        ),
        ("tests/proofs/test_liepoints.py",),
    ),
    "moved-is-an-error": Mutant(
        "a node's word that the slot is elsewhere goes to whoever called, and the owner is not asked for",
        (
            Patch(
                "gemqueue/connections/cluster.py",
                "            if code_of(error) not in _ELSEWHERE:\n",
                "            if code_of(error) not in ():\n",
            ),
        ),
        ("tests/connections/test_cluster.py",),
    ),
    "own-loop-runs-twice": Mutant(
        "without arq a step that runs is begun again by the next sweep",
        (
            Patch(
                "workers/gemqueue_workers/worker/own_loop.py",
                "self._is_draining or (step, id_) in self._running or",
                "self._is_draining or",
            ),
        ),
        ("tests/worker/test_own_loop.py",),
    ),
    "arq-for-all": Mutant(
        "the embedded default's worker is run by arq, which a base installation does not have",
        (
            Patch(
                f"{_WORKERS}work.py",
                "    run = _by_own_loop if companion or names_cluster(settings.redis_url) else _by_arq\n",
                "    run = _by_arq\n",
            ),
        ),
        ("tests/cli/test_extras.py",),
    ),
    "late-sentence": Mutant(
        "a server is started before it is said that the emulator is not installed",
        (
            Patch(
                "gemqueue/embedded/local.py",
                "        if settings.emulate and not settings.base_url and not look:\n",
                "        if False:\n",
            ),
        ),
        ("tests/cli/test_extras.py",),
    ),
    "all-is-sealed-at-once": Mutant(
        "a flood is sealed whatever stands in line",
        (Patch("gemqueue/policy/packing.py", "    if not standing:\n", "    if standing or not standing:\n"),),
        ("tests/policy/test_packing.py", "tests/stages/test_line.py"),
    ),
    "first-sealed-first": Mutant(
        "the line goes by who was sealed first, whatever the priority",
        (Patch(f"{_LUA}_line.lua", "num(b[1]) - num(b[2]) * PRIORITY_MS", "num(b[1]) - num(b[2]) * 0"),),
        ("tests/stages/test_line.py",),
    ),
    "nobody-wakes-the-lane": Mutant(
        "a lane that is parked stays so when the line moves",
        (
            Patch(
                f"{_LUA}_line.lua",
                "    if model_of(lane) == model then\n",
                "    if model_of(lane) == model and parked == model then\n",
            ),
        ),
        ("tests/stages/test_line.py",),
    ),
    "jobs-unlimited": Mutant(
        "a tenant gets into any number of jobs",
        (Patch(f"{_LUA}_tenants.lua", "    if used >= rule.jobs_max then return", "    if false then return"),),
        ("tests/store/test_tenants.py",),
    ),
    "a-held-flood-fills-the-lane": Mutant(
        "what is passed over counts as if it could be packed",
        (
            Patch(
                f"{_LUA}_lanes.lua",
                "  count_lane(lane, sums_of(lane, tenant), -1)\nend\n\nlocal function readmit",
                "end\n\nlocal function readmit",
            ),
        ),
        ("tests/store/test_tenants.py",),
    ),
    "home-forgotten": Mutant(
        "a worker takes the home of whatever server answers",
        (Patch(f"{_LUA}_server.lua", "string.sub(account, 1, 9) ~= 'emulated.'", "account == ''"),),
        ("tests/stages/reconcile/test_forgotten.py",),
    ),
    "copy-unnoticed": Mutant(
        "a copy that is put back on a server that writes through has lost nothing",
        (Patch(f"{_LUA}_server.lua", "if seen_at + COPY_MS < known.seen_at and", "if false and"),),
        ("tests/stages/reconcile/test_forgotten.py",),
    ),
    "fence-below-memory": Mutant(
        "a claim's fence may lie below one that its worker remembers",
        (
            Patch(f"{_LUA}claim.lua", "math.max(floor, knows.fence + 1)", "floor"),
            Patch(f"{_LUA}_server.lua", ", fence or 0)", ", 0)"),
        ),
        ("tests/stages/reconcile/test_forgotten.py",),
    ),
    "sent-again-as-new": Mutant(
        "a run sends the rows that its store forgot as new ones",
        (
            Patch(
                "workers/gemqueue_workers/run/runner.py",
                "            place.index.recall_sent(unpack_entry)\n",
                "            place.index.forget_unsent()\n",
            ),
        ),
        ("tests/stages/reconcile/test_forgotten.py",),
    ),
    "broken-bodies-unread": Mutant(
        "a body that is there counts as one, whatever it holds",
        (
            Patch(
                f"{_WORKERS}stages/submitter.py",
                "            contents = await without_lost(self._kit, lease, batch, read=True)\n",
                "            contents = await without_lost(self._kit, lease, batch, read=False)\n",
            ),
        ),
        ("tests/stages/broken/test_bodies.py",),
    ),
    "a-turned-bit-passes": Mutant(
        "what is compressed has no checksum",
        (Patch("gemqueue/store/codec.py", "level=1, write_checksum=True", "level=1"),),
        ("tests/stages/broken/test_bodies.py",),
    ),
    "bombs-unpacked": Mutant(
        "a frame is unpacked to whatever it says that it is",
        (Patch("gemqueue/store/codec.py", "        if size > bytes_max:\n", "        if size > 10**12:\n"),),
        ("tests/stages/broken/test_bodies.py",),
    ),
    "one-record-stops-all": Mutant(
        "whoever reads many records stops at a malformed one",
        (
            Patch(
                "gemqueue/store/unreadable.py",
                "            self.note(error)\n            return None\n",
                "            self.note(error)\n            raise\n",
            ),
        ),
        ("tests/stages/broken/test_unreadable.py",),
    ),
    "limits-contradict": Mutant(
        "a limit that others bound keeps its default above them",
        (
            Patch(
                "gemqueue/config.py",
                "    settings = _with_bounds(msgspec.structs.replace(settings, **follow), values)\n",
                "    settings = msgspec.structs.replace(settings, **follow)\n",
            ),
        ),
        ("tests/ground/test_config.py",),
    ),
    "a-nested-line-stops-all": Mutant(
        "a line of IN that is nested too deeply ends the run",
        (
            Patch(
                f"{_WORKERS}run/source/reading.py",
                "    except (ValueError, RecursionError) as error:  # msgspec's errors are some of the former\n",
                "    except ValueError as error:\n",
            ),
        ),
        ("tests/cli/run/test_bad_input.py",),
    ),
    "a-beat-is-health": Mutant(
        "a worker that beats is healthy, whatever became of its sweeps",
        (
            Patch(
                "gemqueue/policy/workers.py",
                "now_ms - freshest.last_good_sweep_at > 1000",
                "now_ms - freshest.beat_at > 1000",
            ),
        ),
        ("tests/policy/test_workers.py",),
    ),
    "the-first-sweep-tries-nothing": Mutant(
        "a worker learns that the server does not let it work when prompts are due, and not before",
        (
            Patch(
                f"{_WORKERS}worker/sweeper.py",
                "if self._pool is not None and not self._last_good_sweep_at:\n",
                "if False:\n",
            ),
        ),
        ("tests/stages/test_hints.py",),
    ),
    "unseen-is-good": Mutant(
        "a server that does not tell whether it evicts keys is called good",
        (
            Patch(
                f"{_WORKERS}server_notes.py",
                'if policy == "noeviction" or limit == "0":',
                'if policy in ("noeviction", "") or limit == "0":',
            ),
        ),
        ("tests/connections/test_server_notes.py",),
    ),
    "path-shown": Mutant(
        "a token in the path of a URL is printed",
        (
            Patch(
                "gemqueue/urls.py",
                "part if plain is None or plain.fullmatch(part) else HIDDEN for part",
                "part for part",
            ),
        ),
        ("tests/cli/test_secrets.py",),
    ),
    "proxy-quoted": Mutant(
        "what httpx says of a proxy, a piece of its password among it, is printed",
        (Patch("adapters/gemqueue_adapters/clients.py", "except (httpx.InvalidURL, ValueError):", "except KeyError:"),),
        ("tests/cli/test_secrets.py",),
    ),
    "host-unchecked": Mutant(
        "a page of another site may read the page of the queue under its own name",
        (Patch("workers/gemqueue_workers/serve/guard.py", "if path not in _PUBLIC and not", "if False and not"),),
        ("tests/serve/test_guard.py",),
    ),
    "failure-repeated": Mutant(
        "a failure that goes on is said each time",
        (Patch("workers/gemqueue_workers/logs.py", "if now_s < self._next_s:", "if False:"),),
        ("tests/worker/test_logs.py",),
    ),
    "seal-not-bound": Mutant(
        "a sealed value opens wherever it is put",
        (
            Patch("gemqueue/sealing/box.py", "head + place.encode())", "head)"),
            Patch("gemqueue/sealing/box.py", "value[: head.size] + place.encode())", "value[: head.size])"),
        ),
        ("tests/sealing/test_seals.py",),
    ),
    "seal-plain-names": Mutant(
        "names of a sealed queue stand in Redis as they are",
        (
            Patch(
                "gemqueue/store/seals/ring.py",
                "_keyed(f'{account}/{name}')}\" if self.on else name",
                '_keyed(name)}{name}"',
            ),
        ),
        ("tests/sealing/test_readable.py",),
    ),
    "seal-layout-falls": Mutant(
        "a note about a belief gives a sealed batch back to workers that cannot read it",
        (Patch(f"{_LUA}release.lua", "raise_v(record, v)\n", ""),),
        ("tests/sealing/test_seals.py",),
    ),
    "shred-undone": Mutant(
        "a key that is destroyed while it is wrapped by another comes back",
        (
            Patch(
                f"{_LUA}rewrap.lua",
                "if (redis.call('HGET', record, generation) or '') == old and num(generation) > num(known[2]) then",
                "if old and num(generation) > 0 and known then",
            ),
        ),
        ("tests/sealing/test_seals.py",),
    ),
}
