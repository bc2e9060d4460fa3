module appswitch.test/gotest

go 1.19
