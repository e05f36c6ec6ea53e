module {{name}}

go 1.24

require weir.local/step v1.0.0

replace weir.local/step => ./weir-step
