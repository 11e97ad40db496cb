UPDATE readings SET a = 1
