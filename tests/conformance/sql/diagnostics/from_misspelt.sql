SELECT payload.temp AS temp FORM "t"
