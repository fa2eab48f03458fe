//! The binary `corestone`: reads the command line and runs a member, `ctl` or
//! `inspect`.

use std::process::ExitCode;

use server::{
    config::{self, Asked, ConfigError, Settings},
    ctl,
    error::StartError,
    inspect,
    log::{LogLevel, Logger, quoted},
    member::{self, ETCD_VERSION, Ended},
};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == "ctl" => return ctl::run_from(words),
        Some(word) if word == "inspect" => return inspect::run_from(words),
        _ => {}
    }
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(key, value)| {
            (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect();
    let settings = config::read(&arguments, &environment).and_then(|asked| match asked {
        Asked::Run(values) => Settings::check(values),
        Asked::Version => {
            print_version();
            std::process::exit(0);
        }
        Asked::Help(text) => {
            print!("{text}");
            std::process::exit(0);
        }
    });
    match settings {
        Ok(settings) => std::process::exit(run(&settings)),
        Err(error) => fail(&error),
    }
}

/// Tools read the first line and want a version of etcd there.
fn print_version() {
    println!("etcd Version: {ETCD_VERSION}");
    println!("corestone Version: {}", env!("CARGO_PKG_VERSION"));
    println!("Git SHA: {}", option_env!("CORESTONE_GIT_SHA").unwrap_or("Not provided"));
    println!("OS/Arch: {}/{}", std::env::consts::OS, std::env::consts::ARCH);
}

fn fail(error: &ConfigError) -> ! {
    eprintln!("{}", error.to_string().trim_end());
    std::process::exit(error.exit_code());
}

/// Runs a member; returns the exit code, unless the process dies by the signal that ended it.
fn run(settings: &Settings) -> i32 {
    let logger =
        match Logger::start(&settings.log_level, settings.is_log_json, &settings.log_outputs) {
            Ok(logger) => logger,
            Err(error) => {
                eprintln!("the log cannot be opened: {error}");
                return 1;
            }
        };
    match member::run(settings, &logger) {
        Ended::Start(StartError::Config(error)) => fail(&error),
        Ended::Start(error) => end_with(&logger, "the member cannot start", &error.to_string()),
        // As etcd ends: nothing failed.
        Ended::Removed => {
            logger.flush();
            0
        }
        Ended::Fault(fault) => end_with(&logger, "the member ends", &fault.to_string()),
        Ended::Signal(number) => {
            logger.flush();
            // As process 1 of a container the kernel would ignore the signal's default action.
            if std::process::id() != 1 {
                // It returns only when the signal has no such action.
                let _ = signal_hook::low_level::emulate_default_handler(number);
            }
            0
        }
    }
}

fn end_with(logger: &Logger, message: &str, error: &str) -> i32 {
    logger.log(LogLevel::Error, message, &[("error", quoted(error))]);
    logger.flush();
    1
}
