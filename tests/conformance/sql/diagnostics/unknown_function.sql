SELECT uper(clientid) AS name
FROM "sensors/#"
