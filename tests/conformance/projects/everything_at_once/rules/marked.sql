-- Saved by an editor that marks UTF-8.

  SELECT * FROM "t"
