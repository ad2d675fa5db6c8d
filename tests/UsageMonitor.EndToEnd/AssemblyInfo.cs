using Xunit.Sdk;
using Xunit.v3;

// Servers are started, held to deadlines and killed: one test at a time, so that they do not starve each other.
[assembly: Parallelization(Mode = ParallelMode.None)]
