//! Every form that is stored or sent: its bytes, and how it grows.

mod golden;
mod growth;
mod opening;
mod samples;
