//! The `ringswitch` program. All it can do is in [`ringswitch::cli`].

fn main() -> std::process::ExitCode {
    ringswitch::cli::main()
}
