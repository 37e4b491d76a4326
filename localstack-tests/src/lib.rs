//! The cloud layer against LocalStack, and the same contract on vpcsim
