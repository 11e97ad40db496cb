SELECT payload. AS a FROM "t"
