DROP TABLE api_keys;
DROP TABLE workspaces;
DROP TABLE policies;
DROP TABLE users;
DROP TABLE organizations;
