FOREACH payload.l AS e INCASE e > 1 DO e FROM "t"
