"""The deterministic simulation: the real stages and the real client on one seeded scheduler.

``keyspace``, ``memory`` and ``scripting`` are a server over a dict that runs gemqueue's own Lua files; ``client`` and
``core`` put gemqueue's own store on it. ``loop`` is time and processes, ``network`` the way to the server, ``provider``
and ``cloud`` the provider, ``lines`` what is asked and answered there, ``calls`` its synchronous calls, ``events`` its
webhooks, ``lies`` what it says that is not so, ``again`` what was bought for that. ``clients`` are the producers,
``operator`` looks after dead letters; ``faults`` is what goes wrong, ``scenes`` what a seed is about, ``world`` its
story, ``judge`` the invariants, ``runner`` many seeds.
"""
