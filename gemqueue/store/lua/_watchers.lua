-- Processes that want a segment's notices beside its producer.

-- So many of one segment are told. A process without a notice finds out by itself, only later, so that the time a
-- landing takes can be bounded whatever has registered: a function that is started anew for each look adds one a look.
local WATCHERS_MAX = 64
