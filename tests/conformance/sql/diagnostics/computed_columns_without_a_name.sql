SELECT payload.a IN (1, 2), CASE WHEN payload.a = 1
  THEN 2 END, split(topic, '/')[2], payload.list[1..2], 7, 'text' FROM "t"
