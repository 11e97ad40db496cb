SELECT CASE qos ELSE 'x' END AS kind FROM "t"
