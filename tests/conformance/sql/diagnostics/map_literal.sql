SELECT {} AS a FROM "t"
