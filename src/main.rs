//! The `ringswitch` program. All it can do is in [`ringswitch::cli`].

/// Counts what the runs of dial plans hold, so that each is bounded.
#[global_allocator]
static MEMORY: dialplan::Counted = dialplan::Counted::new(std::alloc::System);

fn main() -> std::process::ExitCode {
    ringswitch::cli::main()
}
