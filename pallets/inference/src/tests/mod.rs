//! Behaviour of the pallet, a file for each step of a request's life, and random sequences over all of them.

mod answer;
mod audit;
mod callback;
mod changes;
mod compare;
mod contest;
mod data;
mod deadline;
mod draw;
mod elsewhere;
mod jury;
mod last_judge;
mod load;
mod offence;
mod properties;
mod report;
mod request;
mod round;
mod settle;
mod simulation;
mod solo;
mod testimony;
mod throughput;
mod toss;
mod unanswerable;
mod view;
