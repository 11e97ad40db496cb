SELECT * FROM "t" WHERE payload.a = null AND payload.b != NULL
