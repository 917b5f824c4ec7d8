DROP TABLE data_set_parts;
DROP TABLE data_sets;
