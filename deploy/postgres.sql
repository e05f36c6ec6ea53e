-- The destination beside the store: results and tables of graphs, in a database of their own.
create database results;
