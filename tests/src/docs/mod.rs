//! The documentation as tests see it: its pages (`page`), the command lines in them (`commands`), what they show held against
//! what was said (`shown`), and the stage on which their commands are typed (`stage`).
//!
//! What a fenced block is for stands behind its language, where no reader sees it:
//!
//! | block | what becomes of it |
//! |---|---|
//! | `yaml documents/NAME.yaml` | a file of the page's stage; whole documents |
//! | `yaml` | whole documents |
//! | `yaml within=NAME` | a part, put in the place of `HERE` in `tests/data/docs/NAME.yaml` |
//! | `yaml applied` | whole documents, given to an API server before the page's `sh api` (`kube_book`) |
//! | `yaml foreign` | YAML that is not for the gateway |
//! | `yaml broken` | whole documents with an error in them |
//! | `sh` | typed on the page's stage, where the gateway is |
//! | `sh until` | the same, again and again until it prints what is shown |
//! | `sh client` | typed on the machine of a client |
//! | `sh api` | typed where an API server is reached |
//! | `sh CLASS` | not run by the page's test; each class has its reason in `tests/docs.rs` |
//! | `text output` | what the block before prints; `…` stands for anything in a line, and as a line for any lines |

pub mod commands;
pub mod page;
pub mod shown;
pub mod stage;
