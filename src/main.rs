//! The `ringswitch` program. All it can do is in [`ringswitch::cli`].

use ringswitch::io::Memory;

/// Counts what the runs of dial plans hold, so that each is bounded.
#[global_allocator]
static MEMORY: dialplan::Counted<Memory> = dialplan::Counted::new(Memory);

fn main() -> std::process::ExitCode {
    ringswitch::cli::main()
}
