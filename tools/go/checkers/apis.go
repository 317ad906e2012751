// Package checkers pins the tools of the chart and the APIs whose schemas controller-gen writes.
package checkers

import (
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	_ "sigs.k8s.io/gateway-api/apis/v1"
)
