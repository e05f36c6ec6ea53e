module weir.local/step

go 1.24
