SELECT uper(clientid) AS a,
  payload.list[0] AS b
FROM "t"
WHERE topic = "x"
