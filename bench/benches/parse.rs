//! Times three parsers of the same INVITE; before anything is timed, what they give is compared.

mod parsers;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parsers::{INVITE, assert_agreement, ezk, hold, ours, rsip};
use std::hint::black_box;

fn parse(criterion: &mut Criterion) {
    let octets = Bytes::from_static(INVITE.as_bytes());
    assert_agreement(&octets);

    let mut group = criterion.benchmark_group("INVITE to its routing fields");
    group.throughput(Throughput::Bytes(octets.len() as u64));
    group.bench_function("sip", |bencher| bencher.iter(|| ours(black_box(&octets), &mut hold)));
    group.bench_function("rsip", |bencher| bencher.iter(|| rsip(black_box(&octets), &mut hold)));
    group.bench_function("ezk-sip-types", |bencher| bencher.iter(|| ezk(black_box(&octets), &mut hold)));
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
