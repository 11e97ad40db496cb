SELECT split(payload.names) AS names, strlen() AS size FROM "t"
