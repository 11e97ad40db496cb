SELECT CASE WHEN qos = 0 THEN 'x' AS kind FROM "t"
