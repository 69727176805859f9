//! The registrar by the rules of its RFCs: octets in, octets out, under a virtual clock. Modules are named by section.

mod switch;

mod rfc3261_10_3;
mod rfc3261_16_5;
mod rfc3261_18_2;
mod rfc3261_22_3;
mod rfc3327;
mod rfc3608;
mod rfc4475;
mod rfc5626;
mod rfc7616;
mod rfc8760;
mod durability;
mod hostile;
