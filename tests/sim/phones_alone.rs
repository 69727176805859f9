//! Phones that call each other without a server between: what holds here holds of the phones, and of `transaction` and `dialog`.

use crate::{
    network::{Rng, Weather},
    phone::Outcome,
    script::{Act, Script},
    simulation::{Simulation, seeds},
};

fn two_phones(seed: u64, weather: Weather) -> (Simulation, usize, usize) {
    let mut simulation = Simulation::new(seed, weather);
    let (alice, bob) = (simulation.phone("alice"), simulation.phone("bob"));
    (simulation, alice, bob)
}

#[test]
fn a_call_is_set_up_and_hung_up() {
    let (mut simulation, alice, bob) = two_phones(1, Weather::fair());
    simulation.call(0, alice, "sip:bob@bob", Script::new().talking(3000, Act::HangUp));
    simulation.finish();
    assert_eq!(simulation.only_call(alice).outcome, Some(Outcome::HungUp));
    assert_eq!(simulation.only_call(bob).outcome, Some(Outcome::HungUpByPeer));
    assert_eq!(simulation.only_call(alice).media, Some(simulation.phones[bob].address.ip()));
    assert_eq!(
        simulation.ladder.to_string(),
        "       0 ms       alice -> bob         #1 INVITE 1 (body)
      10 ms         bob -> alice       #1 100 to INVITE 1
     110 ms         bob -> alice       #1 180 to INVITE 1
    1010 ms         bob -> alice       #1 200 to INVITE 1 (body)
    1020 ms       alice -> bob         #1 ACK 1
    4020 ms       alice -> bob         #1 BYE 2
    4030 ms         bob -> alice       #1 200 to BYE 2
"
    );
}

#[test]
fn calls_come_to_their_end_in_any_weather() {
    for seed in seeds(200) {
        let (mut simulation, alice, bob) = two_phones(seed, Weather::foul());
        let mut rng = Rng::new(seed);
        simulation.phones[bob].on_call(Script::any_callee);
        for n in 0..10 {
            simulation.call(n * 700, alice, "sip:bob@bob", Script::any_caller(&mut rng));
        }
        simulation.finish();
    }
}
