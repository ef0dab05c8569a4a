//! What the agent learns of Kubernetes, from the fake API server.

mod churn;
mod events;
mod names;
mod rig;
mod trouble;
