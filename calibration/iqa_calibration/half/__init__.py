"""FP16 and BF16: conversion by a measured range check, and the search for what must stay float32."""
