INSERT INTO readings
SELECT payload.a AS
FORM "t/#"
