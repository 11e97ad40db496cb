-- Cafés and bars.

  SELECT * FROM "t"
