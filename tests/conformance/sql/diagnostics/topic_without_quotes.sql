SELECT payload FROM sensors/1/temp
