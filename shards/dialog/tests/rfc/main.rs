//! The rules of the RFCs, a file for each section.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod harness;
mod rfc3261_8_1;
mod rfc3261_8_2;
mod rfc3261_12_1;
mod rfc3261_12_2;
mod rfc3261_13_2;
mod rfc3261_14;
mod rfc3262;
mod rfc3264;
mod rfc3311;
mod rfc3326;
mod rfc3515;
mod rfc3891;
mod rfc4028;
mod rfc8866;
mod mangling;
mod record;
