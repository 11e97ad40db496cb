SELECT CASE WHEN qos = 0 'x' END AS kind FROM "t"
