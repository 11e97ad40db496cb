SELECT my_funcs.twice(payload) AS p FROM "t"
