SELECT payload->>'temp' AS t FROM "t"
