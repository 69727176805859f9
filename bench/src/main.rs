//! The bench's command line; `bench/README.md` tells how its figures are made and read.
#![expect(clippy::disallowed_methods, reason = "a load generator is all edge: clocks, sockets and files are its work")]

mod commands;

use std::{
    fmt::Display,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bench::{
    compare::{self, Contender, Plan},
    digest::{Algorithm, Credentials},
    floor::{self, Way},
    load::{self, Load, Outcome, Workload},
    message::{self, Kind, Method},
    mmsg,
    pauses::Watch,
    process::Cpu,
    rival::Kamailio,
    server::{Cores, Floor, Place, Probe, Ringswitch, Running, Scene, Server, free_port},
    sweep,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::Signal;
use serde::Serialize;

/// Load, floor and side-by-side runs for the switch. Loopback only.
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Sends a paced load to a running server and sinks what it forwards.
    Load(LoadArgs),
    /// Runs the null forwarder until SIGTERM, SIGINT or its time is up.
    Floor(FloorArgs),
    /// Runs the floor and the switch side by side and prints the tables.
    Compare(CompareArgs),
    /// One short pass of every floor under load, which tells whether the bench works.
    Quick(QuickArgs),
    /// Tells how often, and for how long, this machine takes a core away, which is in every latency measured here.
    Pauses(PausesArgs),
    /// Makes complete calls through a switch: what a call costs, or what an established one takes of memory.
    Calls(commands::CallsArgs),
    /// Lets calls wait in a plan's dial command, and tells the memory of each.
    Waiting(commands::WaitingArgs),
    /// Lets scripts loop for ever beside phones and callers, and tells how much longer these wait.
    Isolation(commands::IsolationArgs),
    /// Calls back beside phones and requests through the proxy, and tells how much longer these wait.
    Callbacks(commands::CallbacksArgs),
    /// Forwards what comes from one source and from many through several shards, and tells what each of them did.
    Spread(commands::SpreadArgs),
    /// Kills an application server again and again under load, and tells what was lost.
    Kills(commands::KillsArgs),
}

#[derive(Clone, Copy, ValueEnum)]
enum Work {
    /// Requests for the sink itself.
    Forward,
    /// REGISTER of each address of record once, in order.
    RegisterNew,
    /// REGISTER of registered addresses of record, in shuffled order.
    RegisterRefresh,
    /// REGISTER, the challenge, and REGISTER with its answer.
    RegisterDigest,
    /// Requests for registered addresses of record.
    Lookup,
}

/// How large messages are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sizes {
    /// All as large as --method says.
    Fixed,
    /// OPTIONS and INVITEs from 462 to 1400 octets, in an order that is the same in every run.
    Mixed,
    /// OPTIONS from 462 to 486 octets, as from phones whose names and numbers are of different lengths.
    Near,
}

#[derive(Args)]
struct LoadArgs {
    /// What is sent.
    work: Work,
    /// Where the server listens.
    #[arg(long, default_value = "127.0.0.1:5060")]
    server: SocketAddrV4,
    /// The port of the sink on 127.0.0.1, which is also the registered contact.
    #[arg(long, default_value_t = 15070)]
    sink: u16,
    /// The request that is forwarded.
    #[arg(long, value_enum, default_value = "options")]
    method: Method,
    /// How large the forwarded requests are; where they differ, they are of the methods of their mix, whatever --method says.
    #[arg(long, value_enum, default_value = "fixed")]
    sizes: Sizes,
    /// The sink answers 200 through the server, and the latency is that of the round trip.
    #[arg(long)]
    answered: bool,
    /// Messages a second; with --find-max the highest that is tried.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// How long messages are sent; with --find-max in each trial.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many messages are sent, in place of --seconds; register-new sends one for each address of record.
    #[arg(long)]
    count: Option<u64>,
    /// How many addresses of record there are: user0000000 and so on.
    #[arg(long, default_value_t = 1000)]
    aors: u32,
    /// The CSeq number to begin with: above that of the run before, which names it as next_cseq.
    #[arg(long, default_value_t = 1)]
    first_cseq: u32,
    /// Source sockets: 1 is one big trunk, thousands are phones.
    #[arg(long, default_value_t = 8)]
    sources: usize,
    /// Sends what is due at once as one (UDP GSO), as from a NIC that gathers what comes in a row.
    #[arg(long)]
    trains: bool,
    /// The core of generator and sink.
    #[arg(long)]
    core: Option<usize>,
    /// The server's process, whose CPU time and memory are read.
    #[arg(long)]
    pid: Option<u32>,
    /// Searches the highest rate with a loss below 0.1 %.
    #[arg(long)]
    find_max: bool,
    /// Searches that rate, and then runs at so many rates up to it.
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["find_max", "count"])]
    sweep: Option<u32>,
    /// Writes a plot of the sweep to this file.
    #[arg(long, value_name = "FILE", requires = "sweep")]
    svg: Option<PathBuf>,
    /// The password of every account, for register-digest.
    #[arg(long, default_value = "secret")]
    password: String,
    /// The challenge that is answered, for register-digest.
    #[arg(long, value_enum, default_value = "sha256")]
    algorithm: Algorithm,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct FloorArgs {
    /// How datagrams are moved.
    #[arg(long, value_enum, default_value = "mmsg")]
    way: Way,
    /// The port on 127.0.0.1.
    #[arg(long, default_value_t = 15060)]
    listen: u16,
    /// Where everything is sent.
    #[arg(long, default_value = "127.0.0.1:15070")]
    to: SocketAddrV4,
    /// The core.
    #[arg(long)]
    core: Option<usize>,
    /// When it ends by itself.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Who the switch may be held against.
#[derive(Clone, Copy, ValueEnum)]
enum Rival {
    /// Kamailio with its allocator `fm`.
    Kamailio,
}

#[derive(Args)]
struct CompareArgs {
    /// Another server that runs the same, but for restarts and calls.
    #[arg(long, value_enum)]
    rival: Option<Rival>,
    /// The switch.
    #[arg(long, default_value = "target/release/ringswitch")]
    switch: PathBuf,
    /// How the floors forward; all else is held against the first.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mmsg")]
    floor: Vec<Way>,
    /// Repetitions, of which the medians are taken.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Messages a second of the paced runs: of all work, and then further ones of forwarding alone.
    #[arg(long, value_delimiter = ',', default_value = "40000,5000,20000")]
    rate: Vec<u32>,
    /// How long a paced run takes.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where the search for the highest rate begins.
    #[arg(long, default_value_t = 300_000.0)]
    max_rate: f64,
    /// How long each trial of that search takes.
    #[arg(long, default_value_t = 0.5)]
    trial_seconds: f64,
    /// How many addresses of record are registered, in turn; the last is also restarted.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    aors: Vec<u32>,
    /// What REGISTERs are challenged with, in the row that has a challenge.
    #[arg(long, value_enum, default_value = "md5")]
    algorithm: Algorithm,
    /// Calls a second of their paced runs.
    #[arg(long, default_value_t = 1_000)]
    call_rate: u32,
    /// Where the search for the highest rate of calls begins.
    #[arg(long, default_value_t = 20_000.0)]
    max_call_rate: f64,
    /// Only the calls, and the floor beside them.
    #[arg(long)]
    only_calls: bool,
    /// The core of generator and sink.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The core of the server.
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// Where data directories are made; on a real disk, or durability costs nothing.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Writes the figures as JSON to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct PausesArgs {
    /// The core that is watched: the server's.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// A core that is kept busy meanwhile: the generator's.
    #[arg(long)]
    beside: Option<usize>,
    /// How long the core works at a time, and then sleeps.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    spell_usecs: u64,
    /// How long it is watched.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The shortest pause that counts.
    #[arg(long, default_value_t = 1000)]
    shortest_usecs: u64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct QuickArgs {
    /// Messages a second.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// How long each load takes.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Subcommands::Load(args) => run_load(&args),
        Subcommands::Floor(args) => run_floor(&args),
        Subcommands::Compare(args) => run_compare(&args),
        Subcommands::Quick(args) => run_quick(&args),
        Subcommands::Pauses(args) => run_pauses(&args),
        Subcommands::Calls(args) => args.run(),
        Subcommands::Waiting(args) => args.run(),
        Subcommands::Isolation(args) => args.run(),
        Subcommands::Callbacks(args) => args.run(),
        Subcommands::Spread(args) => args.run(),
        Subcommands::Kills(args) => args.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_load(args: &LoadArgs) -> Result<()> {
    if let Some(core) = args.core {
        mmsg::pin(core)?;
    }
    ensure!(args.aors > 0, "--aors is at least 1");
    let mix: Option<&[Kind]> = match args.sizes {
        Sizes::Fixed => None,
        Sizes::Mixed => Some(&message::MIX),
        Sizes::Near => Some(&message::NEAR),
    };
    ensure!(mix.is_none() || matches!(args.work, Work::Forward), "only what is forwarded can have mixed sizes");
    let (method, answered) = (args.method, args.answered);
    let password = args.password.clone();
    let workload = match args.work {
        Work::Forward => match mix {
            Some(mix) => Workload::Mixed { mix, answered },
            None => Workload::Forward { method, answered },
        },
        Work::Lookup => Workload::Lookup { method, answered },
        Work::RegisterNew | Work::RegisterRefresh => Workload::Register { credentials: None },
        Work::RegisterDigest => {
            Workload::Register { credentials: Some(Credentials { password, algorithm: args.algorithm }) }
        }
    };
    let aors = match args.work {
        Work::RegisterNew => (0..args.aors).collect(),
        _ => load::shuffled(args.aors),
    };
    let timed = (args.rate * args.seconds) as u64;
    let count = if matches!(args.work, Work::RegisterNew) { u64::from(args.aors) } else { args.count.unwrap_or(timed) };
    let load = Load {
        server: args.server,
        workload,
        aors: &aors,
        first_cseq: args.first_cseq,
        rate: args.rate,
        count,
        sources: args.sources,
        trains: args.trains,
        patience: Duration::from_secs(1),
        pid: args.pid,
    };
    let sink = mmsg::bind(args.sink)?;
    let time = Duration::from_secs_f64(args.seconds);
    if let Some(steps) = args.sweep {
        let sweep = sweep::run(&load, &sink, steps, time)?;
        if let Some(file) = &args.svg {
            let work = args.work.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
            let title = format!("{work}: latency against load");
            fs::write(file, sweep.svg(&title)).with_context(|| format!("cannot write {}", file.display()))?;
        }
        return print(&sweep, args.json);
    }
    let outcome = match args.find_max {
        true => load::find_max(&load, &sink, time)?,
        false => load::run(&load, &sink)?,
    };
    print(&outcome, args.json)
}

fn run_floor(args: &FloorArgs) -> Result<()> {
    if let Some(core) = args.core {
        mmsg::pin(core)?;
    }
    let own = std::process::id();
    let before = Cpu::read(own)?;
    let forwarded = floor::run(args.way, args.listen, args.to, Duration::from_secs(args.seconds))?;
    let cpu = Cpu::read(own)?.per_message_since(&before, forwarded);
    println!(
        "{:?}: forwarded {forwarded}, CPU {:.2} µs each ({:.2} user, {:.2} system)",
        args.way, cpu.total_us, cpu.user_us, cpu.system_us
    );
    Ok(())
}

fn run_compare(args: &CompareArgs) -> Result<()> {
    let own = std::env::current_exe()?;
    let floors: Vec<Floor> = args.floor.iter().map(|&way| Floor { program: own.clone(), way }).collect();
    let program = args.switch.canonicalize().with_context(|| format!("no switch at {}", args.switch.display()))?;
    let plan = Plan {
        repetitions: args.repeat,
        rates: args.rate.clone(),
        time: Duration::from_secs_f64(args.seconds),
        max_rate: args.max_rate,
        trial: Duration::from_secs_f64(args.trial_seconds),
        aors: if args.only_calls { Vec::new() } else { args.aors.clone() },
        algorithm: args.algorithm,
        call_rate: args.call_rate,
        max_call_rate: args.max_call_rate,
        cores: Cores { generator: args.core, server: args.server_core },
        dir: args.dir.canonicalize().with_context(|| format!("no directory {}", args.dir.display()))?,
    };
    let switch = |scene| Ringswitch { program: program.clone(), scene };
    let with_plan = Scene::one().with_plan("one dial", "caller", compare::ONE_DIAL);
    let callees = [switch(Scene::one()), switch(with_plan)];
    let callees = callees.each_ref().map(|it| it as &dyn Server);
    let ours = [Scene::proxy(), Scene::challenging(args.algorithm), Scene::dispatching()].map(switch);
    let theirs = match args.rival {
        Some(Rival::Kamailio) => {
            let kamailio = Kamailio::find()?;
            Some([kamailio, kamailio.challenging(args.algorithm), kamailio.dispatching()])
        }
        None => None,
    };
    let one_by_one = switch(Scene::one_by_one());
    let floors: Vec<&dyn Server> = floors.iter().map(|it| it as &dyn Server).collect();
    let rival = theirs.as_ref().map(contender);
    let comparison = compare::run(&plan, &floors, contender(&ours), &one_by_one, rival, &callees)?;
    print!("{comparison}");
    if let Some(file) = &args.json {
        fs::write(file, serde_json::to_vec_pretty(&comparison)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn contender<S: Server>([open, challenging, dispatching]: &[S; 3]) -> Contender<'_> {
    Contender { open, challenging, dispatching }
}

fn run_pauses(args: &PausesArgs) -> Result<()> {
    ensure!(args.seconds > 0.0 && args.seconds <= 3600.0, "--seconds is at most an hour, and more than nothing");
    let watch = Watch {
        core: args.core,
        beside: args.beside,
        spell: Duration::from_micros(args.spell_usecs),
        span: Duration::from_secs_f64(args.seconds),
        shortest: Duration::from_micros(args.shortest_usecs),
    };
    print(&watch.run()?, args.json)
}

/// One floor under one load.
#[derive(Serialize)]
struct Pass {
    way: String,
    outcome: Outcome,
}

fn run_quick(args: &QuickArgs) -> Result<()> {
    let sink = mmsg::bind(0)?;
    let mut passes = Vec::new();
    for way in Way::value_variants() {
        let floor = Floor { program: std::env::current_exe()?, way: *way };
        let dir = tempfile::tempdir()?;
        let place = Place { listen: free_port()?, sink: mmsg::address(&sink), cores: None, dir: dir.path() };
        let running = Running::start(&floor, &place, &sink, Probe::Forwards)?;
        let answered = false;
        for (name, workload) in [
            ("options", Workload::Forward { method: Method::Options, answered }),
            ("invite", Workload::Forward { method: Method::Invite, answered }),
            ("mixed", Workload::Mixed { mix: &message::MIX, answered }),
        ] {
            let load = Load {
                server: SocketAddrV4::new(Ipv4Addr::LOCALHOST, place.listen),
                workload,
                aors: &[0],
                first_cseq: 1,
                rate: args.rate,
                count: (args.rate * args.seconds) as u64,
                sources: 2,
                trains: false,
                patience: Duration::from_secs(1),
                pid: Some(running.pid()),
            };
            let outcome = load::run(&load, &sink)?;
            passes.push(Pass { way: format!("{way:?} {name}").to_lowercase(), outcome });
        }
        running.stop(Signal::TERM)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&passes)?);
        return Ok(());
    }
    for Pass { way, outcome } in &passes {
        println!("{way}");
        print(outcome, false)?;
    }
    Ok(())
}

fn print<F: Serialize + Display>(found: &F, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(found)?);
    } else {
        print!("{found}");
    }
    Ok(())
}
