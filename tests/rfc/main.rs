//! The proxy against the RFCs: the path of a test is the section that it holds the proxy to.
//!
//! Octets and the flow that they came on go in, octets and the flow to take come out; a table stands in for the registrar.

mod harness;

mod rfc3261 {
    mod relay;
    mod s12_2;
    mod s16_10;
    mod s16_11;
    mod s16_3;
    mod s16_4;
    mod s16_5;
    mod s16_6;
    mod s18_2;
    mod s21_5_4;
    mod s8_2_7;
}
mod rfc3327 {
    mod s5_2;
}
mod rfc3581 {
    mod s4;
}
mod rfc4475 {
    mod s3_3_10;
}
mod rfc5626 {
    mod s5_3;
}
mod rfc6665 {
    mod s4_3;
}
