//! A request's life, a file for each step.

pub mod answer;
pub mod bar;
pub mod callback;
pub mod claim;
pub mod compare;
pub mod contest;
pub mod deadline;
pub mod draw;
pub mod elsewhere;
pub mod finality;
pub mod jury;
pub mod last_judge;
pub mod load;
pub mod offence;
pub mod report;
pub mod request;
pub mod round;
pub mod session;
pub mod settle;
pub mod shared;
pub mod testimony;
pub mod toss;
pub mod view;
pub mod wait;
