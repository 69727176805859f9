//! Thousands of calls through the application server while a tenth of all datagrams is lost and as many come twice.

use crate::{
    network::{Rng, Weather},
    script::Script,
    simulation::{Simulation, seeds},
};

#[test]
fn calls_through_the_application_server_come_to_their_end_in_any_weather() {
    for seed in seeds(150) {
        let mut simulation = Simulation::with_server(seed, Weather::foul(), |_| ());
        let mut rng = Rng::new(seed);
        let phones = ["alice", "bob", "carol", "dave"].map(|name| simulation.phone(name));
        for phone in phones {
            simulation.phones[phone].on_call(Script::any_callee);
        }
        for n in 0..20 {
            let [from, to] = [rng.within(0..4) as usize, rng.within(0..4) as usize];
            let target = format!("sip:{}@example.com", simulation.phones[to].name);
            simulation.call(n * 500, phones[from], &target, Script::any_caller(&mut rng));
        }
        simulation.finish();
    }
}
