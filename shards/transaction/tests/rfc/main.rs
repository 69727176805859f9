//! Transactions by the rules of their RFCs, in virtual time: what comes in and what timers fire, what goes out and what the
//! TU hears. Modules are named by section; each arrow of figures 5 to 8 is a line of some test.

mod user;

mod rfc3261_8_2_2;
mod rfc3261_9;
mod rfc3261_17_1_1;
mod rfc3261_17_1_2;
mod rfc3261_17_1_3;
mod rfc3261_17_1_4;
mod rfc3261_17_2_1;
mod rfc3261_17_2_2;
mod rfc3261_17_2_3;
mod rfc4320;
mod rfc6026_7_1;
mod rfc6026_7_2;
mod full;
mod memory;
