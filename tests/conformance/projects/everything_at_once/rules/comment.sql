-- Two mistakes in the opening comment.
--  sinks: readings, nope
  -- ack: sometimes
SELECT * FROM "t"
