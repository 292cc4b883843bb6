package trust

// NewAt is [New] for a clock of a test.
var NewAt = newVerifier
