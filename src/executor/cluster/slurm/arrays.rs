//! How many members an array may have here.

use super::super::program::{PATIENCE, ask, words};

/// Slurm's own default for `MaxArraySize`, which is one more than the last index.
const DEFAULT: usize = 1001;

pub(super) fn most_members() -> usize {
    let answer = ask(&words(["scontrol", "show", "config"]), PATIENCE).ok();
    answer.filter(|answer| answer.trouble.is_none()).map_or(DEFAULT, |answer| read(&answer.text()))
}

/// By `MaxArraySize`, and by `max_array_tasks` among the scheduler's parameters. One that allows no arrays allows 1.
fn read(config: &str) -> usize {
    let value = |line: &str, name: &str| line.trim().strip_prefix(name)?.trim_start_matches([' ', '=']).parse().ok();
    let size = config.lines().find_map(|line| value(line, "MaxArraySize")).unwrap_or(DEFAULT);
    let tasks = config.split([',', ' ', '\n']).find_map(|word| value(word, "max_array_tasks"));
    size.min(tasks.unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_bounds_are_read() {
        assert_eq!(read("MailProg                = /bin/mail\nMaxArraySize            = 41\nMaxJobCount = 9"), 41);
        assert_eq!(read("MaxArraySize = 0"), 1);
        let parameters = "MaxArraySize = 1001\nSchedulerParameters     = sched_interval=1,max_array_tasks=20,defer\n";
        assert_eq!(read(parameters), 20);
        assert_eq!(read(""), DEFAULT);
    }
}
