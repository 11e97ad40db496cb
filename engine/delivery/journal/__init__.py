"""The journal: the durable queue between rules and sinks.

Constraints

- A record that was acknowledged is on disk: a commit is one fsync, and nothing is acknowledged before it.
- A publish that goes to six sinks is in the queues of all of them or in no queue: one commit holds the records of all
  sinks, and their positions and counters.
- A commit of one row costs 100 to 160 µs of CPU in SQLite, and one of a hundred little more, so that records are
  gathered into groups. The event loop never waits for the disk.
- In any state of the file the service starts, loses nothing that can be read, and reports its losses.

The path of a record

    OpenGroup  ──closes──▶  Commit  ──SqliteStore──▶  on disk  ──▶  hold done, lane gets a `Segment`
    gathers chunks          numbers, positions,       one           delivery reads the file again only
    of one moment           counters, records         transaction   for a backlog

Invariants

- Records of a lane are numbered from 1 without gaps, in the order in which they were put. A gap that shows when they
  are read is a loss, and is counted.
- A number that a sink may have seen belongs to one record for ever: a record reaches its sink only after its commit,
  and the numbers of a commit that failed are given again. If damage may make numbers repeat, the start reports
  it (``numbers_may_repeat``).
- ``cursor <= committed_seq < next_seq``: up to the cursor everything is settled, up to ``committed_seq`` it is on disk.
- Positions, counters, dead letters and records of one commit are of one moment. So the counters add up after any crash.
- One commit is under way at a time, and at most one can be torn by a power cut.
- A dead letter leaves in the commit that puts its record into a lane again.

Modules that know groups, holds, lanes and counters: `journal` (the interface), `group`, `hold`, `commit`,
`committer`, `changes`, `state`, `segment`, `letter`, `retention`, `repair`, `recovery`, `checksummed`. The file and its
format are known to `sqlite` alone.
"""

from engine.delivery.journal.group import PlacedChunk
from engine.delivery.journal.hold import CommitHold
from engine.delivery.journal.journal import Journal
from engine.delivery.journal.letter import NewDeadLetter, StoredLetter
from engine.delivery.journal.recovery import RecoveryReport
from engine.delivery.journal.segment import DamagedBlock, Reading, Segment
from engine.delivery.journal.state import LaneLog, SinkLog

__all__ = [
    "CommitHold",
    "DamagedBlock",
    "Journal",
    "LaneLog",
    "NewDeadLetter",
    "PlacedChunk",
    "Reading",
    "RecoveryReport",
    "Segment",
    "SinkLog",
    "StoredLetter",
]
