//! What must hold when things stop: the process, the database, a node among others.

mod kill;
mod logins;
mod nodes;
mod outage;
mod privacy;
mod quota;
mod upgrade;
